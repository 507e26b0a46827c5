-- 0007: what tells that the whole way works: the canaries of each ingest, the workers, and what the queue's server has lost.

create table ingests (
  name             text        not null,
  host             text        not null,
  started_at       timestamptz not null,
  canary_sent_at   timestamptz not null,
  canary_stored_at timestamptz not null default now(),
  spool_groups     bigint,
  spool_bytes      bigint,
  left_at          timestamptz,
  constraint ingests_pkey primary key (name)
);

comment on table ingests is 'Each ingest, by the last canary of it that came through: ingest, queue, worker, Postgres. Pruned a week after it.';
comment on column ingests.name is 'Host name and process id.';
comment on column ingests.host is 'Where it runs; another ingest there that was started later has taken its place.';
comment on column ingests.started_at is 'By the clock of the ingest, like canary_sent_at and left_at.';
comment on column ingests.canary_sent_at is 'When it sent its last canary.';
comment on column ingests.canary_stored_at is 'When that was stored, by the clock of Postgres.';
comment on column ingests.spool_groups is 'Groups on its own disk when it sent the canary, which the queue has not taken yet; null where it has no spool.';
comment on column ingests.spool_bytes is 'Bytes that they take there.';
comment on column ingests.left_at is 'When it ended in good order: nothing more is expected of it.';

create table workers (
  name    text        not null,
  seen_at timestamptz not null default now(),
  constraint workers_pkey primary key (name)
);

comment on table workers is 'Each worker, and when it last wrote here: every minute, and oftener while it wonders whether it is stuck. Pruned after a week.';
comment on column workers.name is 'Host name and process id.';
comment on column workers.seen_at is 'When it last wrote here.';

create table queue_identities (
  shard         integer     not null,
  identity      text        not null,
  first_seen_at timestamptz not null default now(),
  last_seen_at  timestamptz not null default now(),
  constraint queue_identities_pkey primary key (shard, identity)
);

comment on table queue_identities is 'The data that the servers of the queue were seen with, by their name: a new one means a server that began empty, or another server. Pruned when not seen for 90 days.';
comment on column queue_identities.shard is 'From 1; each has a server of its own, or not.';
comment on column queue_identities.identity is 'What the server keeps as the name of its data.';
comment on column queue_identities.first_seen_at is 'When a worker first met it.';
comment on column queue_identities.last_seen_at is 'When a worker last met it, to the minute.';

create table queue_losses (
  detected_at timestamptz not null,
  detected_by text        not null,
  description text        not null,
  constraint queue_losses_pkey primary key (detected_at, detected_by)
);

comment on table queue_losses is 'When it was noticed that the queue''s server had lost what it had acknowledged, or may have. Pruned after a year.';
comment on column queue_losses.detected_at is 'When it was noticed.';
comment on column queue_losses.detected_by is 'The ingest or worker that noticed.';
comment on column queue_losses.description is 'What was noticed, in a sentence.';
