from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from httpx import AsyncClient

NOW = datetime.now(UTC).replace(microsecond=0)


async def remind(client: AsyncClient, user_id: int, title: str, start: datetime, **more: Any) -> None:
    reminder = {"user_id": user_id, "title": title, "start_datetime": start.isoformat(), **more}
    response = await client.post("/reminders", json=reminder)
    assert response.status_code == 201, response.text


async def test_each_due_reminder_goes_to_one_worker(client: AsyncClient, user_id: int) -> None:
    titles = {f"reminder {n}" for n in range(10)}
    for title in titles:
        await remind(client, user_id, title, NOW + timedelta(minutes=5), reminder_minutes=10)
    await remind(client, user_id, "not due yet", NOW + timedelta(hours=5), reminder_minutes=10)
    claims = await asyncio.gather(*(client.post("/reminders/claim", params={"limit": 4}) for _ in range(4)))
    claims.append(await client.post("/reminders/claim"))

    handed_out = [occurrence["title"] for claim in claims for occurrence in claim.json()]
    assert len(handed_out) == len(titles)
    assert set(handed_out) == titles


async def test_what_is_coming_is_told_day_by_day(client: AsyncClient, user_id: int) -> None:
    first = NOW + timedelta(hours=1)
    await remind(client, user_id, "Pastilla", first, recurrence_rule="FREQ=DAILY")
    await remind(client, user_id, "Dentista", NOW + timedelta(hours=2))
    response = await client.get("/upcoming", params={"user_id": user_id, "days_ahead": 2})

    assert [occurrence["title"] for occurrence in response.json()] == ["Pastilla", "Dentista", "Pastilla"]
