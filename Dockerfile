# One image for every process of Ringback. Node runs the .ts files as they are, so nothing is built: the first stage
# installs what they import, the second adds the files.

FROM node:26-slim AS dependencies
WORKDIR /app
# Only what decides which packages are installed: another change leaves this layer as it is.
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
COPY patches patches
COPY packages/core/package.json packages/core/
COPY apps/cli/package.json apps/cli/
COPY apps/ingest/package.json apps/ingest/
COPY apps/worker/package.json apps/worker/
RUN npx -y pnpm@12 install --frozen-lockfile --prod \
  --filter ringback --filter @ringback/core --filter @ringback/cli --filter @ringback/ingest --filter @ringback/worker

FROM node:26-slim
ENV NODE_ENV=production
WORKDIR /app
# All of it belongs to the user that reads it: under umask 077 or 027, git makes files that nobody else can read.
COPY --from=dependencies --chown=node:node /app ./
COPY --chown=node:node ringback.config.ts ./
COPY --chown=node:node migrations migrations
COPY --chown=node:node packages/core/src packages/core/src
COPY --chown=node:node apps/cli/src apps/cli/src
COPY --chown=node:node apps/ingest/src apps/ingest/src
COPY --chown=node:node apps/worker/src apps/worker/src
# A new volume takes its owner from here.
RUN install -d -o node -g node /var/lib/ringback/spool
USER node
CMD ["node", "apps/ingest/src/main.ts"]
