select thea.unprotect('planner.tasks');

drop table planner.tasks;
