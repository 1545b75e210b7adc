drop trigger look_at_reminders_again on thea.users;

drop function thea.look_at_reminders_again();

select thea.unprotect('thea.events');

drop table thea.events;
