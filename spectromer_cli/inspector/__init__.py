"""The page on which people inspect spectra and results, as one HTML file or served to several.

`results` reads the table and finds its spectra, `packing` makes them small, `plot` makes the
empty plot, `build` puts everything together; `page.html`, `page.css`, `spectrum.js` (numbers),
`view.js` (drawing), `list.js` (rows and filter), `verdicts.js` (verdicts and undo) and `page.js`
(what the reader does) are put into the page as they are. `server` serves it, `verdicts` keeps what
its inspectors say, `merge` brings that together.
"""
