-- 0022: where search_path names another schema than public, ringback_reader reads the tables there, and none of others in public.
-- Changes rights alone.

do $$
declare
  others text;
begin
  if current_schema() = 'public' then
    return;
  end if;
  execute format('grant usage on schema %I to ringback_reader', current_schema());
  execute format('grant select on all tables in schema %I to ringback_reader', current_schema());
  execute format('alter default privileges in schema %I grant select on tables to ringback_reader', current_schema());

  -- Undoes 0001 and 0009, which name public, unless another Ringback is there.
  if to_regnamespace('public') is not null and to_regclass('public.ringback_migrations') is null then
    alter default privileges in schema public revoke select on tables from ringback_reader;
    for others in
      select oid::regclass
      from pg_class
      where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f') and pg_has_role(relowner, 'usage')
    loop
      execute format('revoke select on %s from ringback_reader', others);
    end loop;
  end if;
exception
  when undefined_object or insufficient_privilege then
    raise notice 'ringback_reader is not there, or this user may not grant it anything; see docs/sql.md';
end
$$;
