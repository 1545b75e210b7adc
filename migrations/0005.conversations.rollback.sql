select thea.unprotect('thea.conversations');

drop table thea.conversations;
