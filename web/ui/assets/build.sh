#!/bin/sh
# Builds what is committed: the Go code of the templates, and static/.
# It needs Node 20 or newer, and the tool templ of .ci/tools.mod.
set -eu
cd "$(dirname "$0")"
# Not npm ci: it wants the optional packages of every platform in the lock file.
npm install --no-save --no-audit --no-fund --silent
(cd ../../.. && go tool -modfile=.ci/tools.mod templ generate -path web/ui -log-level warn)
rm -rf ../static
mkdir ../static
npx --no-install tailwindcss -i app.css -o ../static/app.css --minify
npx --no-install esbuild theme.js --minify --target=es2022 --outfile=../static/theme.js --log-level=warning
npx --no-install esbuild app.js --minify --format=iife --target=es2022 --outfile=../static/app.js --log-level=warning
npx --no-install esbuild passkey.js --minify --format=iife --target=es2022 --outfile=../static/passkey.js --log-level=warning
npx --no-install esbuild wall.js --minify --format=iife --target=es2022 --outfile=../static/wall.js --log-level=warning
npx --no-install esbuild watch.js --minify --target=es2022 --outfile=../static/watch.js --log-level=warning
npx --no-install esbuild player.css --minify --outfile=../static/player.css --log-level=warning
npx --no-install esbuild player.js --minify --format=iife --target=es2022 --outfile=../static/player.js --log-level=warning
cp node_modules/asciinema-player/dist/bundle/asciinema-player.min.js node_modules/asciinema-player/dist/bundle/asciinema-player.css ../static/
cp node_modules/asciinema-player/LICENSE ../static/asciinema-player.LICENSE.txt
mkdir -p ../../testdata/axe
cp node_modules/axe-core/axe.min.js node_modules/axe-core/LICENSE ../../testdata/axe/
node ../../../recorder/bundle/assets/build.mjs "$PWD/node_modules"
cp favicon.svg ../static/favicon.svg
