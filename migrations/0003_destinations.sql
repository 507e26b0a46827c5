-- 0003: limits of destinations, shared by all workers.

create table destinations (
  handler              text             not null,
  state                text             not null default 'closed',
  state_since          timestamptz      not null default now(),
  open_until           timestamptz,
  openings             integer          not null default 0,
  window_started_at    timestamptz      not null default now(),
  window_attempts      integer          not null default 0,
  window_failures      integer          not null default 0,
  consecutive_failures integer          not null default 0,
  tokens               double precision,
  tokens_at            timestamptz      not null default now(),
  last_success_at      timestamptz,
  last_failure_at      timestamptz,
  last_error           text,
  constraint destinations_pkey primary key (handler),
  constraint destinations_state_known check (state in ('closed', 'open', 'half_open', 'disabled'))
);

comment on table destinations is 'Where a handler delivers to, as all workers see it: its circuit breaker and its rate.';
comment on column destinations.state is 'closed: delivered to. open: not before open_until. half_open: one delivery tries. disabled: it answered 410 Gone, or an operator said so.';
comment on column destinations.openings is 'How often in a row the breaker has opened; each time it stays open longer.';
comment on column destinations.tokens is 'Deliveries that may begin now, where a rate is set; as of tokens_at.';

-- Only where a destination has limits is a delivery marked as running: the marks are counted.
alter table deliveries add column running boolean not null default false;

create index deliveries_running on deliveries (handler) where running;

comment on column deliveries.running is 'An attempt is under way at a destination whose concurrency is limited.';

-- By handler, so that what waits for one destination delays nothing for another.
drop index deliveries_due;
create index deliveries_due on deliveries (handler, next_attempt_at) where status = 'pending';
