drop table thea.users;
