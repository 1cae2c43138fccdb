"""The page on which a person inspects spectra and results: one HTML file that needs no network.

`results` reads the table and finds its spectra, `packing` makes them small, `plot` makes the
empty plot, `build` puts everything together; `page.html`, `page.css`, `spectrum.js` (numbers),
`view.js` (drawing) and `page.js` (what the reader does) are put into the page as they are.
"""
