"""The page on which a person inspects spectra and results: one HTML file that needs no network.

`packing` makes spectra small, `plot` makes the empty plot, `page` puts everything together;
`page.html`, `page.css`, `spectrum.js` (numbers), `view.js` (drawing) and `page.js` (what the
reader does) are put into the page as they are.
"""
