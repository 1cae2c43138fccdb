"""A server on this machine that speaks as the archives do: SkyServer, SAS, LAMOST and the rest.

The shapes of the answers were written by hand after the services' own; the spectra come from
`survey_files`. It keeps `FileServer`'s faults for files, and has faults of its own
for questions.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from astropy.io import fits
from astropy.table import Table
from http_server import Fault, FileServer, _Handler
from survey_files import made, write_lamost_image, write_spec

from spectromer_cli.archives.targets import separation

COLUMNS = ("plate", "mjd", "fiberID", "run2d", "ra", "dec", "class", "subClass", "z", "zErr",
           "zWarning", "snMedian")  # fmt: skip
LIST_PATHS = {"SKYSERVER": "", "SAS": "/sas", "LAMOST": "/lamost", "VIZIER": "/vizier",
              "GAVO": "/gavo", "SPARCL": "/sparcl", "ESO_TAP": "/tap_obs", "ESO": "/eso",
              "SESAME": "/sesame"}  # fmt: skip


class ArchiveServer(FileServer):
    """All archives at once. `questions` logs what services were asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.RequestHandlerClass = _ArchiveHandler
        self.folder = folder
        self.names = {"M 87": (187.70593, 12.39112), "the star": (45.75, -0.5)}
        self.sdss: list[dict[str, Any]] = []
        self.lamost: list[dict[str, Any]] = []
        self.desi: list[dict[str, Any]] = []
        self.eso: list[dict[str, Any]] = []
        self.token = ""
        self.tokens: list[str | None] = []
        self.service_faults: list[Fault] = []
        self.html = b""  # sent in place of every answer to a question
        self.questions: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send the program here."""
        return {f"SPECTROMER_{key}_URL": self.url + path for key, path in LIST_PATHS.items()}

    def add_sdss(self, plate: int, mjd: int, fiber: int, **row: Any) -> str:
        """An SDSS spectrum, in SkyServer and as a file; returns the file's path."""
        answer = {"class": "GALAXY", "subClass": "", "z": 0.1, "zWarning": 0}
        entry = {"plate": plate, "mjd": mjd, "fiberID": fiber, "run2d": "26", "ra": 147.25,
                 "dec": -0.5, "zErr": 1e-5, "snMedian": 10.0, **answer, **row}  # fmt: skip
        self.sdss.append(entry)
        name = f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits"
        path = f"/sas/dr17/sdss/spectro/redux/{entry['run2d']}/spectra/lite/{plate:04d}/{name}"
        self.add(path, spec_bytes(self.folder, plate, mjd, fiber, entry))
        return path

    def add_sdss_v(self, path: str) -> None:
        """The SDSS-V spectrum of `survey_files`: field 15143, MJD 59205."""
        file = write_spec(self.folder / "v.fits", made(), "SDSS-V")
        self.add(path, file.read_bytes())
        file.unlink()

    def add_lamost(self, obsid: int, release: str = "dr10/v2.0", **row: Any) -> str:
        """A LAMOST spectrum, in VizieR, at GAVO and as a gzip file with a header's name."""
        self.lamost.append({"ObsID": obsid, "RAJ2000": 45.75, "DEJ2000": -0.5, "Class": "STAR",
                            "SubClass": "F7", "z": 1e-4, "e_z": 1e-5, **row})  # fmt: skip
        file = write_lamost_image(
            self.folder / "l.fits.gz", made(CLASS="STAR", SUBCLASS="F7", Z=1e-4), OBSID=obsid
        )
        path = f"/lamost/{release}/spectrum/fits/{obsid}"
        # A name that tries to leave the folder.
        disposition = 'attachment; filename="../../evil.fits.gz"'
        self.add(path, file.read_bytes(), Content_Disposition=disposition)
        self.add(f"/gavo/getproduct/{obsid}.fits", file.read_bytes())
        file.unlink()
        return path

    def add_desi(self, targetid: int, ra: float = 187.706, dec: float = 12.391) -> None:
        """A record of SPARCL."""
        spectrum = made(1000)
        self.desi.append(
            {
                "sparcl_id": f"00000000-0000-0000-0000-{len(self.desi):012d}", "specid": targetid,
                "targetid": targetid, "ra": ra, "dec": dec, "redshift": 0.25,
                "redshift_err": 1e-4, "redshift_warning": 0, "spectype": "GALAXY",
                "data_release": "DESI-DR1", "_dr": "DESI-DR1", "flux": spectrum.flux,
                "wavelength": spectrum.wavelength, "ivar": spectrum.ivar,
                "mask": spectrum.and_mask,
            }
        )  # fmt: skip

    def add_eso(self, dp_id: str, ra: float = 187.706, dec: float = 12.391) -> None:
        """A Phase 3 spectrum: one row, a vector a cell."""
        self.eso.append(
            {"dp_id": dp_id, "target_name": "M87", "s_ra": ra, "s_dec": dec,
             "instrument_name": "XSHOOTER", "access_estsize": 1000}
        )  # fmt: skip
        spectrum, file = made(1000), io.BytesIO()
        row = {"WAVE": [spectrum.wavelength / 10], "FLUX": [spectrum.flux],
               "ERR": [spectrum.ivar**-0.5]}  # fmt: skip
        Table(row, units={"WAVE": "nm"}).write(file, format="fits")
        self.add(f"/eso/{dp_id}", file.getvalue())


def spec_bytes(folder: Path, plate: int, mjd: int, fiber: int, row: dict[str, Any]) -> bytes:
    """A `spec` lite file of the given ids and answer."""
    target = {"CLASS": row["class"], "SUBCLASS": row["subClass"], "Z": row["z"]}
    path = write_spec(folder / "s.fits", made(**target, ZWARNING=row["zWarning"]))
    with fits.open(path) as hdus:
        hdus[0].header.update({"PLATEID": plate, "MJD": mjd, "FIBERID": fiber})
        for name, number in (("PLATE", plate), ("MJD", mjd), ("FIBERID", fiber)):
            hdus[2].data[name][0] = number
        out = io.BytesIO()
        hdus.writeto(out)
    path.unlink()
    return out.getvalue()


class _ArchiveHandler(_Handler):
    server: ArchiveServer
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._route(b"")

    def do_HEAD(self) -> None:
        self.path = self.path.split("?")[0]
        super().do_HEAD()

    def do_POST(self) -> None:
        self._route(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _route(self, body: bytes) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/sesame/"):  # its query is the name alone
            query = {"name": unquote(url.query)}
        for start, answer in _ANSWERS.items():
            if url.path.startswith(start):
                self.server.questions.append(unquote(url.path))
                self._say(answer, url.path, query, body)
                return
        token = self.server.token if url.path.startswith("/lamost") else ""
        if token and query.get("token") != token:
            self._head(401, {"Content-Length": "0"})
            return
        self.server.tokens.append(query.get("token"))
        self.path = unquote(url.path)
        super().do_GET()

    def _say(self, answer: Any, path: str, query: dict[str, str], body: bytes) -> None:
        fault = self.server.service_faults.pop(0) if self.server.service_faults else Fault()
        if fault.status is not None:
            self._head(fault.status, {**fault.headers, "Content-Length": "0"})
            return
        kind, data = answer(self.server, path, query, body)
        if self.server.html:
            kind, data = "text/html", self.server.html
        self._head(200, {"Content-Type": kind, "Content-Length": str(len(data))})
        self.wfile.write(data)


# --- SkyServer ------------------------------------------------------------------------------


def _skyserver(
    server: ArchiveServer, path: str, query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    if body:
        return "text/plain", _csv(COLUMNS, _crossed(server, body.decode()))
    sql = query["cmd"]
    if "fDocColumns" in sql:
        document = [{"TableName": "Table1", "Rows": [{"name": name} for name in COLUMNS]}]
        return "application/json", json.dumps(document).encode()
    server.questions.append(sql)
    try:
        names, rows = _sql(server.sdss, sql)
    except sqlite3.Error as error:
        return "text/plain", f"error_message\n{error}\n".encode()
    return "text/plain", _csv(names, rows)


def _sql(table: list[dict[str, Any]], sql: str) -> tuple[tuple[str, ...], list[tuple]]:
    """Run it with SQLite, which knows all but TOP."""
    top = re.search(r"\bTOP\s+(\d+)", sql, re.IGNORECASE)
    if top:
        sql = sql.replace(top[0], "") + f" LIMIT {top[1]}"
    with sqlite3.connect(":memory:") as database:
        database.execute(f"CREATE TABLE SpecObjAll ({', '.join(COLUMNS)})")
        marks = ", ".join("?" * len(COLUMNS))
        rows = [[row[name] for name in COLUMNS] for row in table]
        database.executemany(f"INSERT INTO SpecObjAll VALUES ({marks})", rows)
        database.execute("CREATE VIEW SpecObj AS SELECT * FROM SpecObjAll")
        answer = database.execute(sql)
        return tuple(column[0] for column in answer.description), answer.fetchall()


def _crossed(server: ArchiveServer, form: str) -> list[tuple]:
    """CrossID, within the radius in arcmin; the answer does not name the places."""
    places = re.findall(r"obj_\d+ ([-\d.]+) ([-\d.]+)", form)
    radius = re.search(r'name="radius"\s+([\d.e-]+)', form)
    assert radius and 'name="searchtool"' in form
    return [
        tuple(row[name] for name in COLUMNS)
        for ra, dec in places
        for row in server.sdss
        if separation(float(ra), float(dec), row["ra"], row["dec"]) <= 60 * float(radius[1])
    ]


def _csv(names: tuple[str, ...], rows: list[tuple]) -> bytes:
    lines = ["#Table1", ",".join(names), *(",".join(map(str, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


# --- the Virtual Observatory ----------------------------------------------------------------


def _votable(
    rows: list[dict[str, Any]], names: tuple[str, ...], utypes: dict[str, str] | None = None
) -> tuple[str, bytes]:
    """A VOTable as TAP and SSA send it, with the status that pyvo looks for."""
    fields, cells = "", ""
    for name in names:
        sample = rows[0][name] if rows else ""
        kind = {int: 'datatype="long"', float: 'datatype="double"'}.get(
            type(sample), 'datatype="char" arraysize="*"'
        )
        utype = f' utype="{utypes[name]}"' if utypes and name in utypes else ""
        fields += f'<FIELD name="{name}" ID="{name}" {kind}{utype}/>'
    for row in rows:
        cells += "<TR>" + "".join(f"<TD>{row[name]}</TD>" for name in names) + "</TR>"
    text = (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        '<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>'
        f"<TABLE>{fields}<DATA><TABLEDATA>{cells}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )
    return "application/x-votable+xml", text.encode()


def _vizier(
    server: ArchiveServer, path: str, query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    script = body.decode()
    form = dict(line.partition("=")[::2] for line in script.splitlines())
    assert form["-out.max"] == "unlimited", "the library's usual limit is 50 rows"
    places = re.findall(r"^([\d.]+)([-+][\d.]+)$", script, re.MULTILINE)
    near = [
        row
        for ra, dec in places
        for row in server.lamost
        if separation(float(ra), float(dec), row["RAJ2000"], row["DEJ2000"]) <= float(form["-c.rs"])
    ]
    return _votable(near, ("ObsID", "RAJ2000", "DEJ2000", "Class", "SubClass", "z", "e_z"))


def _ssa(server: ArchiveServer, path: str, query: dict[str, str], body: bytes) -> tuple[str, bytes]:
    ra, dec = map(float, query["POS"].split(","))
    rows = []
    for row in server.lamost:
        if separation(ra, dec, row["RAJ2000"], row["DEJ2000"]) <= 1800 * float(query["SIZE"]):
            common = {"location": f"{row['RAJ2000']} {row['DEJ2000']}", "ssa_targclass": "star"}
            url = f"{server.url}/gavo/getproduct/{row['ObsID']}.fits"
            rows.append({"accref": url, "mime": "application/fits", **common})
            rows.append({"accref": f"{url}.vot", "mime": "application/x-votable+xml", **common})
    utypes = {"accref": "ssa:Access.Reference", "mime": "ssa:Access.Format",
              "location": "ssa:Char.SpatialAxis.Coverage.Location.Value"}  # fmt: skip
    return _votable(rows, ("accref", "mime", "location", "ssa_targclass"), utypes)


def _eso_tap(
    server: ArchiveServer, path: str, query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    adql = parse_qs(body.decode())["QUERY"][0]
    circle = re.search(r"CIRCLE\('ICRS', ([-\d.]+), ([-\d.]+), ([\d.]+)\)", adql)
    assert circle and "dataproduct_type = 'spectrum'" in adql
    ra, dec, radius = map(float, circle.groups())
    rows = [r for r in server.eso if separation(ra, dec, r["s_ra"], r["s_dec"]) <= 3600 * radius]
    names = ("dp_id", "target_name", "s_ra", "s_dec", "instrument_name", "access_estsize")
    return _votable(rows, names)


# --- SPARCL, Sesame -------------------------------------------------------------------------


def _sparcl(
    server: ArchiveServer, path: str, query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    call = path.split("/api/")[1].strip("/")
    if call == "version":
        return "text/plain", b"14.2"
    if call == "datafields":
        names = [name for name in server.desi[0] if name != "_dr"]
        fields = [
            {"data_release": "DESI-DR1", "origdp": name, "newdp": name, "default": True,
             "storage": "S" if np.ndim(server.desi[0][name]) else "C", "all": True}
            for name in names
        ]  # fmt: skip
        return "application/json", json.dumps(fields).encode()
    status = {"status": {"info": [], "warnings": []}}
    asked = json.loads(body)
    if call == "find":
        rows = [row for row in server.desi if all(_fits(row, *term) for term in asked["search"])]
        wanted = [*asked["outfields"], "_dr"]
        found = [{name: row[name] for name in wanted} for row in rows]
        return "application/json", json.dumps([status, *found]).encode()
    rows = [row for row in server.desi if row["sparcl_id"] in asked]
    names = [*query["include"].split(","), "_dr"]
    return "application/octet-stream", pickle.dumps(
        [status, *({name: row[name] for name in names} for row in rows)]
    )


def _fits(row: dict[str, Any], name: str, *values: Any) -> bool:
    """SPARCL takes two numbers with a point as a range, anything else as a list."""
    if name in ("ra", "dec"):
        return bool(values[0] <= row[name] <= values[1])
    return row[name] in values


def _sesame(
    server: ArchiveServer, path: str, query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    place = server.names.get(query["name"])
    if place is None:
        return "text/plain", b"# nothing\n#!SNV: No astronomical object found :\n"
    return "text/plain", f"#=S=Simbad\n%J {place[0]:.5f} {place[1]:+.5f} = x\n".encode()


_ANSWERS = {
    "/dr17/en/tools/search/": _skyserver,
    "/dr18/en/tools/search/": _skyserver,
    "/vizier/viz-bin/votable": _vizier,
    "/gavo/lamost6/q/svc_lrs/ssap.xml": _ssa,
    "/tap_obs/sync": _eso_tap,
    "/sparcl/api/": _sparcl,
    "/sesame/": _sesame,
}
