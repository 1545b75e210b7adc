select thea.unprotect('planner.links');

drop table planner.links;
