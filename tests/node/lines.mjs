// What the scripts share: settings come from the environment, results go out as one JSON object a line.

/** The setting `name`; without it the script ends. */
export function setting(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`the environment variable ${name} is not set`);
  return value;
}

/** Tells the test something. */
export function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
