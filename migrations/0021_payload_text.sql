-- 0021: a payload whose text is far longer than its bytes, as of a list of 1e131071, stops nobody who reads others. Adds a
-- function, replaces one, and changes no table.

create function payload_text(payload jsonb) returns text
language plpgsql immutable as $$
declare
  content text;
begin
  content := payload::text;
  return case when octet_length(content) <= 4 * 1024 * 1024 then content end;
exception
  when program_limit_exceeded or internal_error then return null; -- more than a gigabyte
end
$$;

comment on function payload_text is 'A payload as text; null if that is longer than 4 MiB, which is four times as long as the largest callback.';

-- As in 0017, but null for numbers beyond a double, which jsonb would print with all their digits. An event has texts in place
-- of them.
create or replace function payload_of_raw(raw bytea) returns jsonb
language plpgsql immutable as $$
declare
  content text;
begin
  content := convert_from(raw, 'UTF8');
  if content ~ '^\s*[{[]' then
    if content ~ '\d[eE][+-]?\d{3}' and exists (
      select from regexp_matches(regexp_replace(content, '"(?:[^"\\]|\\.)*"', '""', 'g'), '\d[eE][+-]?(\d+)', 'g') as e (parts)
      where parts[1]::numeric > 324
    ) then
      return null;
    end if;
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

comment on function payload_of_raw is 'The bytes of a callback as jsonb, where they are JSON or a form; null where they are neither, or an event could not hold them as they are.';
comment on column changed_duplicates.payload is 'What came again; null where its bytes are neither JSON nor a form, or an event could not hold them as they are, as with \u0000 or 1e999.';
