drop schema planner;
