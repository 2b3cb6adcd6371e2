// Three durable steps for Restate, to be measured beside ours: `node three-steps.mjs PORT`.
// `spawned` starts /bin/true in each step, as our runbook does; `empty` does nothing in them.
import { execFile } from "node:child_process";
import http2 from "node:http2";

// Node 20 does not have it, and the SDK wants it.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};
const restate = await import("@restatedev/restate-sdk");

const spawn = () => new Promise((yes, no) => execFile("/bin/true", (error) => (error ? no(error) : yes(0))));
const three = (step) => async (context) => {
  for (const name of ["one", "two", "three"]) await context.run(name, step);
};
const steps = restate.service({ name: "steps", handlers: { spawned: three(spawn), empty: three(() => 0) } });
http2.createServer(restate.createEndpointHandler({ services: [steps] })).listen(Number(process.argv[2]), "127.0.0.1");
