-- 0017: changed_duplicates tells what changed in a form whose fields repeat, and takes no JSON for a form. Replaces a function,
-- and changes no table.

create or replace function payload_of_raw(raw bytea) returns jsonb
language plpgsql immutable as $$
declare
  content text;
begin
  content := convert_from(raw, 'UTF8');
  if content ~ '^\s*[{[]' then
    return content::jsonb;
  end if;
  return (
    select jsonb_object_agg(name, case when jsonb_array_length(texts) = 1 then texts -> 0 else texts end)
    from (
      select
        decode_form_text(split_part(pair, '=', 1)) as name,
        jsonb_agg(decode_form_text(substring(pair from '=(.*)$')) order by ord) as texts
      from regexp_split_to_table(content, '&') with ordinality as p (pair, ord)
      where pair <> ''
      group by 1
    ) as fields
  );
exception
  when data_exception then return null; -- no UTF-8, no JSON, or a text that jsonb refuses
end
$$;

comment on function payload_of_raw is 'The bytes of a callback as jsonb, where they are JSON or a form; null where they are neither, or jsonb cannot hold them.';
comment on column changed_duplicates.changes is 'The fields that differ: each with its value in the event and in the repetition; null is a field that was not there. Null where payload is.';
comment on column changed_duplicates.payload is 'What came again; null where its bytes are neither JSON nor a form, or jsonb cannot hold them, as with \u0000.';
