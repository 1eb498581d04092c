// A device that runs npm's openid-client: discovery, codes, polls.
//
// Settings: ISSUER, CLIENT_ID, WELL_KNOWN (oauth2 or oidc: which document it discovers). Says {codes} and, in the end,
// {token} or {error}.

import * as client from 'openid-client';

import { say, setting } from './lines.mjs';

const config = await client.discovery(new URL(setting('ISSUER')), setting('CLIENT_ID'), undefined, client.None(), {
  algorithm: setting('WELL_KNOWN'),
  execute: [client.allowInsecureRequests],
});
const codes = await client.initiateDeviceAuthorization(config, {});
say({ codes });
try {
  say({ token: await client.pollDeviceAuthorizationGrant(config, codes) });
} catch (error) {
  if (!(error instanceof client.ResponseBodyError)) throw error;
  say({ error: error.error, status: error.status });
}
