// Prints what the official validator finds in templates: one finding a line. Arguments: for each
// run a template, and its parameters as a JSON object. It takes seconds to start, and none for a
// run.
import { RegoEngine, TemplateFile } from "@aws/cloudformation-validate";

const args = process.argv.slice(2);
const engine = new RegoEngine();
for (let i = 0; 2 * i < args.length; i++) {
  const report = engine.validateStandard(new TemplateFile(args[2 * i]), {
    severityLevel: "DEBUG",
    parameterOverrides: JSON.parse(args[2 * i + 1]),
    pseudoParameterOverrides: { region: "eu-central-1" },
  });
  for (const d of report.diagnostics) {
    console.log(`${i} ${d.severity} ${d.ruleId} ${d.entity?.logicalId ?? d.entity?.name ?? "-"} ${d.propertyPath ?? "-"}: ${d.message}`);
  }
  console.log(`${i} ${report.status}, ${engine.listRules().length} rules`);
}
engine.free();
