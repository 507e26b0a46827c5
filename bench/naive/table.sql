-- What such a design keeps. The same for the one with a queue and the one without.
create table events (
  id          bigint      generated always as identity primary key,
  callback_id text        not null unique,
  type        text        not null,
  payload     jsonb       not null,
  received_at timestamptz not null default now()
);
