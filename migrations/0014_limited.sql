-- 0014: which rows of destinations are of handlers with limits; the others only count. It rewrites nothing.

alter table destinations add column limited boolean not null default true;

comment on column destinations.limited is 'The handler has limits, and so a state that is heeded. Otherwise the row only counts attempts.';
