drop table thea.message_history;
