drop trigger keep_dates on thea.users;

drop function thea.keep_dates();

drop function thea.same_day(timestamptz, text, text);

drop function thea.upsert_event(text, bigint, text, text, jsonb, text[]);

select thea.unprotect('thea.events');

drop table thea.events;
