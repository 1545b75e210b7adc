-- What users want to remember, found again by words, tags and categories.

-- name: get_by_id
-- The note with this id; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed
from thea.notes
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: exists
-- Whether there is a note with this id that is not deleted.
-- not null: found
select exists (
  select from thea.notes
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many notes there are that are not deleted.
-- not null: total
-- variants: user_id, category, created_from, created_before
select count(*) as total
from thea.notes
where tenant_id = :tenant_id
  and deleted_at is null
  and (:user_id::bigint is null or user_id = :user_id)
  and (:category::text is null or category = :category)
  and (:is_pinned::boolean is null or is_pinned = :is_pinned)
  and (:tags::text[] is null or tags && :tags)
  and (:created_from::timestamptz is null or created_at >= :created_from)
  and (:created_before::timestamptz is null or created_at < :created_before);

-- name: get_all
-- A page of notes in the order of time, from after the given place; empty past the end.
-- one plan: user_id, after_at, after_id
-- variants: user_id, category, created_from, created_before, newest_first
select
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed
from thea.notes
where tenant_id = :tenant_id
  -- The page starts after the last row of the one before, or where the time asked for begins.
  and case when :newest_first
    then (created_at, id) < (
      case
        when :after_at::timestamptz is not null then :after_at
        when :created_before::timestamptz is not null then :created_before
        else 'infinity'
      end,
      case when :after_id::bigint is null then 0 else :after_id end
    )
    else (created_at, id) > (
      case
        when :after_at::timestamptz is not null then :after_at
        when :created_from::timestamptz is not null then :created_from
        else '-infinity'
      end,
      case when :after_id::bigint is null then 0 else :after_id end
    )
  end
  and (:include_deleted or deleted_at is null)
  and (:user_id::bigint is null or user_id = :user_id)
  and (:category::text is null or category = :category)
  -- As a number that is not 0, because the planner takes "null or equal" for narrow: then a plan for all calls reads
  -- all notes, and each call is planned anew.
  and case
    when (:is_pinned::boolean is null or is_pinned = :is_pinned) and (:tags::text[] is null or tags && :tags) then 1
    else 0
  end <> 0
  and (:created_from::timestamptz is null or created_at >= :created_from)
  and (:created_before::timestamptz is null or created_at < :created_before)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: search
-- The notes that answer the query, best first, with the marked part that does; empty when none does.
-- not null: rank, snippet
select
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at,
  f.rank, f.snippet, n.sealed
from thea.search_notes(:tenant_id, :user_id, :groups, :limit) f
join thea.notes n on n.tenant_id = :tenant_id and n.id = f.id
where thea.may_search(:tenant_id)
order by f.rank desc, n.created_at desc, n.id desc;

-- name: get_by_tags
-- The user's notes with any of the tags, or with all of them, the newest first; empty when there are none.
select
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.sealed
from thea.tagged_notes(:tenant_id, :user_id, :tags, :match_all) f
join thea.notes n on n.tenant_id = :tenant_id and n.id = f.id
order by n.created_at desc, n.id desc;

-- name: get_by_category
-- The user's notes of this category, the newest first; empty when there are none.
select
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed
from thea.notes
where tenant_id = :tenant_id
  and user_id = :user_id
  and category = :category
  and deleted_at is null
order by created_at desc, id desc;

-- name: tag_counts
-- How many of the user's notes have each tag, the most used first; empty when there are no tags.
-- not null: tag, total
select t.tag, count(*) as total
from thea.notes n
cross join unnest(n.tags) as t (tag)
where n.tenant_id = :tenant_id
  and n.user_id = :user_id
  and n.deleted_at is null
group by t.tag
order by total desc, t.tag;

-- name: create_many
-- The new notes, in the order of the rows; an error when a user is missing.
with parents as (
  select id
  from thea.users
  where tenant_id = :tenant_id
    and id = any (array(select user_id from jsonb_to_recordset(:rows) as (user_id bigint)))
    and deleted_at is null
  for share
)
insert into thea.notes (
  tenant_id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime, extra_data,
  next_reminder_at, sealed
)
select
  :tenant_id, case when r.user_id in (select id from parents) then r.user_id end, r.title, r.content, r.category,
  coalesce(r.priority, 0), coalesce(r.tags, '{}'), coalesce(r.is_pinned, false), r.reminder_datetime, r.extra_data,
  r.reminder_datetime, r.sealed
from rows from (
  jsonb_to_recordset(:rows) as (
    user_id bigint, title text, content text, category text, priority integer, tags text[], is_pinned boolean,
    reminder_datetime timestamptz, extra_data jsonb, sealed jsonb
  )
) with ordinality as r (
  user_id, title, content, category, priority, tags, is_pinned, reminder_datetime, extra_data, sealed, place
)
order by r.place
returning
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed;

-- name: row_key
-- What the texts of this note are sealed for, locked until the end of the transaction; null where they are not.
-- nullable: row_key
select sealed ->> 'row' as row_key
from thea.notes
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
for no key update;

-- name: update
-- The note with the given fields changed; no row when there is none.
update thea.notes
set (
  title, content, category, priority, tags, is_pinned, reminder_datetime, extra_data, next_reminder_at, sealed
) = (
  select
    n.title, n.content, n.category, n.priority, n.tags, n.is_pinned, n.reminder_datetime, n.extra_data,
    -- A note whose reminder moved is reminded of anew.
    case
      when n.reminder_datetime is distinct from notes.reminder_datetime then n.reminder_datetime
      else notes.next_reminder_at
    end,
    jsonb_strip_nulls(coalesce(notes.sealed, '{}') || n.sealed)
  from jsonb_populate_record(notes, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed;

-- name: add_tags
-- The note with the tags that it did not have put after its own; no row when there is none.
update thea.notes n
set tags = n.tags || array(
  select t.tag
  from unnest(:tags::text[]) with ordinality as t (tag, place)
  where t.tag <> all (n.tags)
  order by t.place
)
where n.tenant_id = :tenant_id
  and n.id = :note_id
  and n.deleted_at is null
returning
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.sealed;

-- name: remove_tags
-- The note without the tags; no row when there is none.
update thea.notes n
set tags = array(
  select t.tag
  from unnest(n.tags) with ordinality as t (tag, place)
  where t.tag <> all (:tags::text[])
  order by t.place
)
where n.tenant_id = :tenant_id
  and n.id = :note_id
  and n.deleted_at is null
returning
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.sealed;

-- name: toggle_pin
-- The note, pinned where it was not, and the other way round; no row when there is none.
update thea.notes
set is_pinned = not is_pinned
where tenant_id = :tenant_id
  and id = :note_id
  and deleted_at is null
returning
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime,
  extra_data, created_at, updated_at, deleted_at, sealed;

-- name: claim_due_reminders
-- The notes whose reminder is due, each for this worker alone, in any order; empty when there are none that another
-- worker does not claim.
update thea.notes n
set next_reminder_at = null
where n.tenant_id = :tenant_id
  and n.id = any (array(
    select locked.id
    from (
      select id
      from thea.notes
      where tenant_id = :tenant_id
        and next_reminder_at <= :now
        and deleted_at is null
      order by next_reminder_at, id
      limit :limit
      for no key update skip locked
    ) locked
  ))
returning
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.sealed;

-- name: delete
-- The id of the note, which is hidden; no row when there was none.
update thea.notes
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The note, back; no row when it was not deleted, or when its user is.
with returning_note as (
  select n.id
  from thea.notes n
  join thea.users u on u.tenant_id = :tenant_id and u.id = n.user_id and u.deleted_at is null
  where n.tenant_id = :tenant_id
    and n.id = :id
    and n.deleted_at is not null
  for share of u
  for update of n
)
update thea.notes n
set deleted_at = null, deleted_with = null
from returning_note r
where n.tenant_id = :tenant_id
  and n.id = r.id
returning
  n.tenant_id, n.id, n.user_id, n.title, n.content, n.category, n.priority, n.tags, n.is_pinned,
  n.reminder_datetime, n.extra_data, n.created_at, n.updated_at, n.deleted_at, n.sealed;

-- name: purge
-- The id of the note, which is gone for good; no row when there was none.
delete from thea.notes
where tenant_id = :tenant_id
  and id = :id
returning id;
