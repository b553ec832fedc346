"""The report's style sheet: neutral, light or dark as the reader's system is, light on paper."""

STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2125;--soft:#5d666f;--line:#dfe2e5;
--accent:#2a6f97;--a2:#c8553d;--ok:#3c8d5a;--bad:#c0392b;--wait:#98a1a9;--warn:#fdf3dc}
@media (prefers-color-scheme:dark){:root{--bg:#15181b;--card:#1c2024;--ink:#e4e7ea;--soft:#98a2ab;
--line:#31373d;--accent:#6cb0d6;--a2:#e58a6f;--ok:#62b982;--bad:#e57366;--wait:#6d7780;--warn:#352d17}}
@media print{:root{color-scheme:light;--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;
--accent:#2a6f97;--a2:#c8553d;--ok:#3c8d5a;--bad:#c0392b;--wait:#888;--warn:#fff8e6}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 28px}
header{padding-top:40px}h1{font-size:34px;line-height:1.15;margin:0;letter-spacing:-.02em}
.lead{color:var(--soft);margin:6px 0 20px;max-width:75ch}
h2{font-size:22px;margin:0 0 2px;letter-spacing:-.01em;display:flex;align-items:center;gap:10px}
h3{font-size:15px;margin:22px 0 6px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:22px 24px;
margin:18px 0;break-inside:auto}
.line{color:var(--soft);margin:0 0 14px}p{max-width:80ch}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;border-bottom:1px solid var(--line);
padding:12px 0;font-size:14px}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.strip{display:flex;flex-wrap:wrap;gap:6px}
.step{display:flex;flex-direction:column;border:1px solid var(--line);border-radius:8px;
background:var(--card);padding:6px 11px;font-size:13px;line-height:1.3;color:var(--ink);
border-top:3px solid var(--wait);min-width:84px}
.step small{color:var(--soft)}
.step.done{border-top-color:var(--ok)}.step.failed{border-top-color:var(--bad)}
.step.running{border-top-color:var(--accent)}
.step.left-out,.step.off{border-style:dashed;border-top-style:solid;border-top-color:var(--line)}
.badge{font-size:12px;font-weight:500;border-radius:99px;padding:1px 9px;
border:1px solid var(--line);
color:var(--soft)}
.badge.done{color:var(--ok)}.badge.failed{color:var(--bad);border-color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:10px;
margin:14px 0 4px}
.tile{border:1px solid var(--line);border-radius:8px;padding:10px 12px;overflow:hidden}
.tile .value{font-size:17px;font-weight:600;letter-spacing:-.01em;white-space:nowrap}
.tile .src{display:block;font-size:10.5px}
.tile.long .value{font-size:14.5px;line-height:25px}
.tile .name{color:var(--soft);font-size:13px}
.src{font:11px/1.35 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft);
overflow-wrap:anywhere}
table{border-collapse:collapse;font-size:13.5px;margin:8px 0;width:100%}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500}thead th{color:var(--soft);font-size:12.5px;white-space:nowrap}
td.num,th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.facts{columns:2;column-gap:36px;margin:8px 0 14px}
.fact{display:grid;grid-template-columns:1fr auto;gap:0 14px;padding:4px 0;break-inside:avoid;
border-bottom:1px solid var(--line);font-size:14px}
.fact b{font-weight:600;font-variant-numeric:tabular-nums;text-align:right}
.fact small{grid-column:1/3;color:var(--soft);line-height:1.3}
@media (max-width:760px){.facts{columns:1}}
.wide{overflow-x:auto}
.row{display:flex;flex-wrap:wrap;gap:18px;align-items:flex-start}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px}
figure{margin:10px 0;flex:1 1 300px;min-width:0;break-inside:avoid}
figure.half{flex:1 1 44%}figure.full{flex:1 1 100%}figure.most{flex:1 1 58%}
.stack{flex:1 1 34%;min-width:0;display:flex;flex-direction:column;gap:4px}
figure.small{flex:0 1 150px}figure.map{flex:0 1 auto;max-width:100%}figure.map svg{max-width:100%}
@media (min-width:760px){figure.half{max-width:50%}.row figure.half{max-width:100%}
.row figure.half:only-child{max-width:50%}
.stack figure.half{max-width:100%}}
.grid figure{margin:0}
figure img{display:block;width:100%;height:auto;border-radius:6px}
figure svg{display:block;width:100%;height:auto}
figcaption{font-size:12.5px;color:var(--soft);margin-top:5px;line-height:1.4}
figcaption span{color:var(--ink)}
.note{color:var(--soft)}.warning{background:var(--warn);border-radius:8px;padding:8px 12px}
details{border-top:1px solid var(--line);padding:6px 0}summary{cursor:pointer;font-size:14px}
pre{font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow:auto;
max-height:420px;background:var(--bg);border-radius:6px;padding:10px 12px;white-space:pre-wrap;
overflow-wrap:anywhere}
footer{color:var(--soft);font-size:13px;padding-bottom:40px}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .axis{stroke:var(--line)}
svg .title{fill:var(--ink)}
@page{margin:14mm}
@media print{nav{display:none}body{font-size:10.5pt}header,main,footer{padding:0;max-width:none}
section{border:0;padding:0 0 8px;margin:14px 0}pre{max-height:none}
details::details-content{content-visibility:visible;height:auto}
a{color:inherit}}
"""
