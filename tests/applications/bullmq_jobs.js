// BullMQ: two workers, retries with backoff, delays, flows (a parent that waits for its children), priorities.

import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';

import * as work from './work.js';

const FLOWS = 5;
const CHILDREN = 4;
const RANKED = 20;

await work.main(async (port, jobs) => {
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
  const queue = new Queue('jobs', { connection });
  const ended = new QueueEvents('jobs', { connection });
  await ended.waitUntilReady();
  const workers = [1, 2].map(
    () => new Worker('jobs', async ({ data }) => work.perform(data), { connection, concurrency: 10 }),
  );

  const given = [];
  for (let job = 0; job < jobs; job++) {
    given.push(await queue.add('perform', work.data(job), {
      attempts: 2,
      backoff: { type: 'fixed', delay: 100 },
      delay: work.putOff(job) ? work.DELAY_MS : 0,
    }));
  }
  const results = await Promise.all(given.map((job) => job.waitUntilFinished(ended).catch(() => null)));
  const more = { flows: await flows(connection), ranked: await ranked(connection) };

  await Promise.all([...workers, ended, queue].map((part) => part.close()));
  return { results, more };
});

/** How many parents have found the sum of their children, which lie in another queue. */
async function flows(connection) {
  const producer = new FlowProducer({ connection });
  const ended = new QueueEvents('parents', { connection });
  await ended.waitUntilReady();
  const workers = [
    new Worker('children', async ({ data }) => data.number, { connection, concurrency: 5 }),
    new Worker('parents', async (job) => {
      const parts = Object.values(await job.getChildrenValues());
      return parts.reduce((sum, part) => sum + part, 0);
    }, { connection }),
  ];
  const trees = await producer.addBulk(Array.from({ length: FLOWS }, (_, flow) => ({
    name: 'parent',
    queueName: 'parents',
    children: Array.from({ length: CHILDREN }, (_, number) => (
      { name: 'child', queueName: 'children', data: { number: flow + number } }
    )),
  })));
  const sums = await Promise.all(trees.map(({ job }) => job.waitUntilFinished(ended)));
  await Promise.all([...workers, ended, producer].map((part) => part.close()));
  return sums.filter((sum, flow) => sum === CHILDREN * flow + (CHILDREN * (CHILDREN - 1)) / 2).length;
}

/** How many jobs with priorities, added before there was a worker, have been run in their order. */
async function ranked(connection) {
  const queue = new Queue('ranked', { connection });
  const order = [];
  for (let number = 0; number < RANKED; number++) {
    await queue.add('rank', { priority: 1 + ((number * 7) % RANKED) }, { priority: 1 + ((number * 7) % RANKED) });
  }
  const ended = new QueueEvents('ranked', { connection });
  await ended.waitUntilReady();
  const drained = new Promise((resolve) => ended.on('drained', resolve));
  const worker = new Worker('ranked', async ({ data }) => order.push(data.priority), { connection });
  await drained;
  await Promise.all([worker, ended, queue].map((part) => part.close()));
  return order.filter((priority, place) => priority === place + 1).length;
}
