"""Reads a contract with the package `myelectricaldatapy`, whose parser is what is under test; only its transport is ours, as
the package knows the address of one server."""
import asyncio
import json
import os
import sys
import types
import urllib.request
from datetime import datetime

# The parser alone: the package's front page brings pandas.
package = types.ModuleType("myelectricaldatapy")
package.__path__ = [os.path.join(sys.argv[1], "myelectricaldatapy")]
sys.modules["myelectricaldatapy"] = package
aiohttp = types.ModuleType("aiohttp")
aiohttp.ClientError = type("ClientError", (Exception,), {})
aiohttp.ClientResponseError = type("ClientResponseError", (aiohttp.ClientError,), {})
aiohttp.ClientSession = object
sys.modules["aiohttp"] = aiohttp
from myelectricaldatapy.myelectricaldata import Enedis  # noqa: E402

SERVER = os.environ["SERVER"]


class Answer:
    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    async def read(self):
        return self.body

    async def json(self):
        return json.loads(self.body)

    def raise_for_status(self):
        pass


class Session:
    async def request(self, method, url, headers):
        service, meter = url.rsplit("/", 2)[1:]
        assert service == "contracts", url
        path = f"/data/proxy/customers_upc/v5/usage_points/contracts?usage_point_id={meter}"
        return Answer(urllib.request.urlopen(urllib.request.Request(SERVER + path, headers=headers)))


async def main():
    client, meter = Enedis(os.environ["TOKEN"], Session()), os.environ["METER"]
    contract = await client.async_get_contract(meter)
    hours = [await client.async_check_offpeak(meter, datetime(2026, 1, 1, hour, 30)) for hour in range(24)]
    print(json.dumps({"contract": contract, "has_offpeak": await client.async_has_offpeak(meter), "hours": hours}))


asyncio.run(main())
