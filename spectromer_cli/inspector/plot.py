"""The empty plot of the page; `page.js` fills its sources and sets its colours by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bokeh.plotting import figure

HEIGHT = 500  # screen pixels
# The importance band fills this share of the height, at the bottom.
BAND = 0.05
# The spectrum ends here; the names of the lines stand above, where nothing is drawn below them.
NAMES = 0.70
# From the end of a line to its name, which may stand aside where lines are close.
LEADER = 0.03


def bokeh_script() -> str:
    """Bokeh's own script, to be put into the page: only the part that draws plots."""
    from bokeh.resources import Resources

    resources = Resources(mode="inline", components=["bokeh"], log_level="warn")
    return "\n".join(resources.js_raw).replace("\r\n", "\n")


def plot_json() -> dict[str, Any]:
    """The plot as Bokeh's script takes it."""
    from bokeh.embed import json_item

    return dict(json_item(_figure()))


def _figure() -> figure:
    """Flux, error, template fit, masks, importance and lines, all still empty."""
    from bokeh.models import (
        BasicTickFormatter,
        BoxZoomTool,
        ColumnDataSource,
        LinearAxis,
        PanTool,
        Range1d,
        ResetTool,
        SaveTool,
        WheelZoomTool,
    )
    from bokeh.plotting import figure

    zoom = BoxZoomTool()
    fig = figure(
        name="figure", height=HEIGHT, sizing_mode="stretch_width",
        x_range=Range1d(start=3600, end=10400, name="observed"),
        y_range=Range1d(start=0, end=1, name="height"),
        tools=[zoom, PanTool(), WheelZoomTool(dimensions="width"), ResetTool(), SaveTool()],
        active_drag=zoom, toolbar_location="right", min_border_left=70,
    )  # fmt: skip
    # A white that is drawn before `view.js` sets the colours would leave a rim.
    fig.outline_line_color = None
    fig.border_fill_color = fig.background_fill_color = None
    fig.toolbar.logo = None
    fig.extra_x_ranges = {"rest": Range1d(start=3600, end=10400, name="rest")}
    fig.extra_y_ranges = {"share": Range1d(start=0, end=1)}  # 0 bottom to 1 top, whatever the flux
    plain = BasicTickFormatter(use_scientific=False)
    fig.xaxis.formatter = plain
    fig.xaxis.axis_label = "Observed vacuum wavelength (Å)"
    fig.yaxis.axis_label = "Flux density per Å (unit of the file)"
    fig.add_layout(
        LinearAxis(x_range_name="rest", axis_label="Rest-frame wavelength (Å)", formatter=plain),
        "above",
    )

    def source(name: str, *columns: str) -> ColumnDataSource:
        return ColumnDataSource({column: [] for column in columns}, name=name)

    masks = source("masks", "left", "right")
    fig.quad("left", "right", 1.0, 0.0, source=masks, line_width=0, y_range_name="share",
             name="masked")  # fmt: skip
    spectrum = source("spectrum", "x", "flux", "low", "high")
    fig.varea("x", "low", "high", source=spectrum, name="error")
    fig.step("x", "flux", source=spectrum, mode="center", line_width=1, name="flux")
    fig.line("x", "y", source=source("model", "x", "y"), line_width=1.6, name="template")
    fig.quad("left", "right", BAND, 0.0, source=source("importance", "left", "right", "colour"),
             fill_color="colour", line_width=0, y_range_name="share", name="band")  # fmt: skip
    # The paper of the names: a bright line ends at its foot, as at the frame of the plot.
    fig.quad("left", "right", 1.0, NAMES, source=source("paper", "left", "right"),
             y_range_name="share", name="names paper")  # fmt: skip
    for kind, dash in (("emission", "solid"), ("absorption", "dashed")):
        marks = source(kind, "x", "name", "at")
        fig.segment("x", 0.0, "x", NAMES, source=marks, line_dash=dash, y_range_name="share",
                    name=f"{kind} marks")  # fmt: skip
        fig.segment("x", NAMES, "at", NAMES + LEADER, source=marks, y_range_name="share",
                    name=f"{kind} leaders")  # fmt: skip
        fig.text("at", NAMES + LEADER + 0.01, "name", source=marks, angle=90,
                 angle_units="deg", text_align="left", text_baseline="middle",
                 text_font_size="11px", y_range_name="share", name=f"{kind} names")  # fmt: skip
    return fig
