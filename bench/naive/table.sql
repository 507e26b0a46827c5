-- The table of a naive design, the same with a queue and without.
create table events (
  id          bigint      generated always as identity primary key,
  callback_id text        not null unique,
  type        text        not null,
  payload     jsonb       not null,
  received_at timestamptz not null default now()
);
