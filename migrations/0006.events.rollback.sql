drop table thea.events;
