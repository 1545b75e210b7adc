select thea.unprotect('thea.message_history');

drop table thea.message_history;
