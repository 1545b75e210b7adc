drop function thea.add_message(
  text, bigint, text, bigint, text, text, text, jsonb, double precision, integer, jsonb
);

select thea.unprotect('thea.message_history');

drop table thea.message_history;
