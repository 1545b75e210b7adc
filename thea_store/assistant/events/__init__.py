"""A user's calendar.

`repository` has its calls, and `records` what they take and give. Each of the others does one part of the work:
`preparing` makes a row ready to be stored, `schedule` finds an event's occurrences, `windows` what happens in a time,
`reminders` what is due.
"""
