// bee-queue: two workers, retries with backoff, delays, word of their ends by publish/subscribe.

import Queue from 'bee-queue';

import * as work from './work.js';

await work.main(async (port, jobs) => {
  const settings = { redis: { host: '127.0.0.1', port }, activateDelayedJobs: true, nearTermWindow: 5000 };
  const queue = new Queue('jobs', { ...settings, isWorker: false });
  const workers = [1, 2].map(() => new Queue('jobs', settings));
  await Promise.all([queue, ...workers].map((part) => part.ready()));
  for (const worker of workers) worker.process(10, async ({ data }) => work.perform(data));

  const results = await Promise.all(Array.from({ length: jobs }, (_, job) => outcome(queue, job)));
  const { succeeded, failed } = await queue.checkHealth();
  await Promise.all([queue, ...workers].map((part) => part.close()));
  return { results, more: { succeeded, lost: failed } };
});

/** Gives a job and waits for it: resolves to its result, or to null. */
function outcome(queue, number) {
  const job = queue.createJob(work.data(number)).retries(1).backoff('fixed', 100);
  if (work.putOff(number)) job.delayUntil(Date.now() + work.DELAY_MS);
  return new Promise((resolve, reject) => {
    job.on('succeeded', resolve);
    job.on('failed', () => resolve(null));
    job.save().catch(reject);
  });
}
