-- 0023: what store_groups holds, beside groups. Changes comments alone.

comment on table store_groups is
  'Groups that have been stored, and reports of workers on attempts: one that comes again changes nothing. Pruned after a week.';
comment on column store_groups.id is 'The own id of the group, made by ingest, or of the report, made by the worker.';
