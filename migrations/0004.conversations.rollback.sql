drop table thea.conversations;
