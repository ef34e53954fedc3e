"""What is written to each server and read from it again, by the clients that everybody uses."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import psycopg

from tests.services.service import Service

NAME = "kept"
WORD = b"a-confirmed-word"


async def write(service: Service) -> None:
    """Write a word, and return when the server has confirmed it."""
    await {
        "postgres": _to_postgres,
        "redis": _to_redis,
        "nats": _to_nats,
        "rabbitmq": _to_rabbitmq,
        "kafka": _to_kafka,
    }[service.name](service)


async def read(service: Service) -> Any:
    """Return the word."""
    return await {
        "postgres": _from_postgres,
        "redis": _from_redis,
        "nats": _from_nats,
        "rabbitmq": _from_rabbitmq,
        "kafka": _from_kafka,
    }[service.name](service)


async def _to_postgres(service: Service) -> None:
    async with await psycopg.AsyncConnection.connect(service.url) as connection:
        await connection.execute("CREATE TABLE kept (word BYTEA)")
        await connection.execute("INSERT INTO kept VALUES (%s)", [WORD])


async def _from_postgres(service: Service) -> Any:
    async with await psycopg.AsyncConnection.connect(service.url) as connection:
        ((word,),) = await (await connection.execute("SELECT word FROM kept")).fetchall()
        return word


async def _to_redis(service: Service) -> None:
    async with _untyped("redis.asyncio").from_url(service.url) as client:
        await client.set(NAME, WORD)


async def _from_redis(service: Service) -> Any:
    async with _untyped("redis.asyncio").from_url(service.url) as client:
        return await client.get(NAME)


async def _to_nats(service: Service) -> None:
    client = await _untyped("nats").connect(service.url)
    await client.jetstream().add_stream(name=NAME, subjects=[NAME])
    await client.jetstream().publish(NAME, WORD)
    await client.close()


async def _from_nats(service: Service) -> Any:
    client = await _untyped("nats").connect(service.url)
    message = await client.jetstream().get_last_msg(NAME, NAME)
    await client.close()
    return message.data


async def _to_rabbitmq(service: Service) -> None:
    from aio_pika import DeliveryMode, Message, connect

    async with await connect(service.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(NAME, durable=True)
        await channel.default_exchange.publish(Message(WORD, delivery_mode=DeliveryMode.PERSISTENT), NAME)


async def _from_rabbitmq(service: Service) -> Any:
    from aio_pika import connect

    async with await connect(service.url) as connection:
        channel = await connection.channel()
        return (await (await channel.get_queue(NAME)).get()).body


async def _to_kafka(service: Service) -> None:
    async with _untyped("aiokafka").AIOKafkaProducer(bootstrap_servers=service.address) as producer:
        await producer.send_and_wait(NAME, WORD)


async def _from_kafka(service: Service) -> Any:
    settings = {"bootstrap_servers": service.address, "auto_offset_reset": "earliest"}
    async with _untyped("aiokafka").AIOKafkaConsumer(NAME, **settings) as consumer:
        return (await consumer.getone()).value


def _untyped(module: str) -> Any:
    return import_module(module)
