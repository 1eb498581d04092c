// A real authorization server in Enedis' place: npm's oidc-provider, with its own sign-in and consent pages.
//
// Unlike Enedis it demands PKCE and a `redirect_uri` at the authorize endpoint, rotates refresh tokens, and knows one
// client. Settings: CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, AUTH_METHOD (of RFC 8414). Says {issuer} when it listens,
// and {event, ...} for each token it issues or refuses to.

import { createServer } from 'node:http';

import { say, setting } from './lines.mjs';

// oidc-provider uses a function that Node.js has since version 22.1.
URL.parse ??= (...address) => (URL.canParse(...address) ? new URL(...address) : null);
// Its hints for operators must not mix with what the test reads.
console.info = console.error;
const { default: Provider } = await import('oidc-provider');

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: setting('CLIENT_ID'),
        client_secret: setting('CLIENT_SECRET'),
        redirect_uris: [setting('REDIRECT_URI')],
        token_endpoint_auth_method: setting('AUTH_METHOD'),
        grant_types: ['authorization_code', 'refresh_token'],
      },
    ],
    pkce: { required: () => true },
    rotateRefreshToken: () => true,
    cookies: { keys: ['a key for signing the cookies of a test'] },
    features: { devInteractions: { enabled: true } },
  });
  provider.on('grant.success', (ctx) => say({ event: 'granted', grant: ctx.oidc.params.grant_type }));
  provider.on('grant.error', (ctx, error) => say({ event: 'refused', error: error.error, detail: error.error_detail }));
  provider.on('authorization.error', (ctx, error) => say({ event: 'refused', error: error.error }));
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());
  say({ issuer });
});
