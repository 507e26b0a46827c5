/** The page's section on what is compared, and where the designs are not alike. */
export const PROMISES = `## What is compared

| design | what it stores | what its 200 promises |
| --- | --- | --- |
| Ringback | the event in indexed partitions, with its own bytes and headers; its name for ever; the group's id; duplicates, refusals and counts of requests | on disk in Redis; stored once, whatever crashes |
| Ringback, everysec | the same | in Redis; up to a second of it is lost if the machine dies |
| Ringback without Redis | the same; the queue lives in Postgres, as in \`npm start\` | on disk in Postgres |
| naive | one row of one table: id, type, payload as jsonb | on disk in Redis; a duplicate is not kept |
| no queue | the same row | on disk in Postgres; no 200 while Postgres is down or slow |
| pg-boss, graphile-worker | the same row, and the job's row before it | on disk in Postgres; no 200 while Postgres is down or slow |
| bare node:http, bare Hono, the Express handler | nothing | nothing |

Against Ringback:

- It stores more of each callback than the others do, in more tables.
- It checks more: limits on size, time and quarantine, headers to leave out, JSON that Postgres would refuse.
- Its log, metrics and alerts are on.

For Ringback:

- Answers leave together, so clients that wait for their answer before they send again arrive together, which makes HTTP cheaper than for designs that answer one by one. The table of fixed arrival rates is free of this effect.
- The designs with a job or an INSERT for each callback could also group; a design that does is Ringback.

The other designs are tuned:

- All but Express share one HTTP side: \`c.req.text()\`, \`crypto.hash\`, secrets read once. Express runs the handler of Voximplant's article, fixed so that it answers once.
- naive: concurrency 50, beyond which there is no gain; finished jobs removed.
- pg-boss: batches of 1,000, a poll every half second, no pause after a full batch, one INSERT for a batch.
- graphile-worker: a local queue of 500, 24 jobs at a time, jobs completed in batches.
- Each has a pool of 10 connections and prepared statements where its driver has them.`
