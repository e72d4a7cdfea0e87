// The work of work.py, for applications of Node.js, whose workers run in this process: runs are counted here.

export const DELAY_MS = 1000;
const PATIENCE_MS = 60_000;

const runs = new Map();
const early = new Set();

const stumbles = (job) => job % 10 === 3;
const fails = (job) => job % 25 === 11;
export const putOff = (job) => job % 10 === 7;

/** What is to be given for a job now. */
export const data = (job) => ({ job, due: putOff(job) ? Date.now() + DELAY_MS : 0 });

/** A job: returns the square of its number, or throws. */
export function perform({ job, due }) {
  if (Date.now() < due) early.add(job);
  runs.set(job, (runs.get(job) ?? 0) + 1);
  if (fails(job) || (stumbles(job) && runs.get(job) === 1)) throw new Error(`job ${job}`);
  return job * job;
}

/** What the application says (the result of each job, null if it has failed for good) and what has happened. */
function counts(results, more) {
  const done = results.flatMap((result, job) => (result === job * job ? [job] : []));
  return {
    done: done.length,
    retried: done.filter((job) => runs.get(job) === 2).length,
    delayed: done.filter((job) => putOff(job) && !early.has(job)).length,
    failed: results.filter((result) => result === null).length,
    runs: [...runs.values()].reduce((sum, count) => sum + count, 0),
    ...more,
  };
}

/** Runs an application's jobs against a server: `node tests/applications/bullmq_jobs.js PORT JOBS`. */
export async function main(application) {
  const [port, jobs] = process.argv.slice(2).map(Number);
  const patience = setTimeout(() => {
    console.error('the jobs do not end');
    process.exit(1);
  }, PATIENCE_MS);
  const began = Date.now();
  const { results, more } = await application(port, jobs);
  const seconds = Math.round((Date.now() - began) / 100) / 10;
  console.log(JSON.stringify({ ...counts(results, more), seconds }));
  clearTimeout(patience);
}
