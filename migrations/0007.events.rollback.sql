drop trigger keep_dates on thea.users;

drop function thea.keep_dates();

drop function thea.same_day(timestamptz, text, text);

select thea.unprotect('thea.events');

drop table thea.events;
