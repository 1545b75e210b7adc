async def test_a_created_user_is_found_by_id(store, tenant):
    user = await store.users.create(tenant, telegram_id=7)
    assert await store.users.get_by_id(tenant, user.id) == user
