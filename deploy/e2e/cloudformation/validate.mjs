// Prints what the official validator finds in a template: one finding a line. Arguments: the template, then for each run a JSON object of its
// parameters.
import { RegoEngine, TemplateFile } from "@aws/cloudformation-validate";

const [file, ...runs] = process.argv.slice(2);
const engine = new RegoEngine();
for (const [i, parameterOverrides] of runs.map((run) => JSON.parse(run)).entries()) {
  const report = engine.validateStandard(new TemplateFile(file), {
    severityLevel: "DEBUG",
    parameterOverrides,
    pseudoParameterOverrides: { region: "eu-central-1" },
  });
  for (const d of report.diagnostics) {
    console.log(`${i} ${d.severity} ${d.ruleId} ${d.entity?.logicalId ?? d.entity?.name ?? "-"} ${d.propertyPath ?? "-"}: ${d.message}`);
  }
  console.log(`${i} ${report.status}, ${engine.listRules().length} rules`);
}
engine.free();
