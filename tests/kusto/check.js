// Reads {tables, queries} from standard input, and writes what Microsoft's parser has against each query, with all tables
// and in a workspace that has none yet.
const fs = require("fs");
const path = require("path");
const vm = require("vm");

global.window = global;
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  const full = path.join(process.argv[2], "node_modules", "@kusto", "language-service-next", file);
  vm.runInThisContext(fs.readFileSync(full, "utf8"), { filename: file });
}

const { KustoCode, GlobalState, Symbols } = Kusto.Language;
const { tables, queries } = JSON.parse(fs.readFileSync(0, "utf8"));

function workspace(schemas) {
  const symbols = Object.entries(schemas).map(([name, columns]) => Symbols.TableSymbol.From(columns).WithName(name));
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("workspace", symbols));
}

const found = [];
for (const [place, globals] of Object.entries({ full: workspace(tables), empty: workspace({}) })) {
  for (const [query, text] of Object.entries(queries)) {
    const code = KustoCode.ParseAndAnalyze(text, globals);
    const all = code.GetDiagnostics();
    for (let index = 0; index < all.Count; index++) {
      const each = all.getItem(index);
      found.push({ query, place, severity: each.Severity, message: each.Message });
    }
  }
}
process.stdout.write(JSON.stringify(found));
