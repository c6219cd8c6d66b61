"""The report's style sheet."""

STYLE = """
:root { --line: #d0d4da; --soft: #5b6470; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 64rem;
  margin: 0 auto; padding: 1rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .3rem .5rem; text-align: right; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; vertical-align: bottom; }
td { border-top: 1px solid var(--line); white-space: pre; }
tbody th { padding-top: 1rem; overflow-wrap: anywhere; }
/* A shadow at the edge beyond which a table goes on. */
.wide { overflow-x: auto; background:
  linear-gradient(to right, #fff 40%, transparent) left / 2rem 100% no-repeat local,
  linear-gradient(to left, #fff 40%, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to right, #0003, transparent) left / .7rem 100% no-repeat scroll,
  linear-gradient(to left, #0003, transparent) right / .7rem 100% no-repeat scroll; }
thead th { min-width: 3.2rem; }
.warnings { border-left: 4px solid #d55e00; padding: .5rem 1rem .5rem 2rem; background: #fdf3ec; }
.plots { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.plots figure, .pairs figure { margin: 0; }
.plots figure { max-width: 36rem; }
.plots img { width: 100%; height: auto; display: block; }
.pairs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.pairs figure { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem .4rem;
  align-content: start; }
.pairs img { width: 100%; aspect-ratio: 1; display: block; background: #eee; }
.pairs span { display: block; font-size: .75rem; line-height: 1.3; color: var(--soft); }
.pairs figcaption { grid-column: 1 / 3; grid-row: 1; font-size: .85rem; }
figcaption, .soft { color: var(--soft); font-size: .9rem; }
.pairs figcaption { color: inherit; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .5rem 1.5rem; }
dt { font-weight: 600; max-width: 12rem; }
dd { margin: 0; }
@media (max-width: 30rem) {
  th, td { padding: .3rem .25rem; }
  td:first-child { white-space: normal; min-width: 6rem; }
  table { font-size: .9rem; }
  dl { display: block; }
  dt { margin-top: .6rem; }
}
"""
