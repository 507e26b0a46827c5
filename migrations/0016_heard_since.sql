-- 0016: since when an ingest is heard of without a gap, for what it counted comes some seconds after its canaries. It
-- rewrites nothing.

alter table ingests add column heard_since timestamptz not null default now();

comment on column ingests.heard_since is 'Since when its canaries have come without a gap of a minute, by the clock of Postgres.';
