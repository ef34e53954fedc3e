#!/bin/sh
# What `make test` needs besides Python packages: a model checker, a C compiler for it, and a message broker that has no
# wheel. As root they are installed; anybody else is told how, and their tests are skipped. Nothing is started: the tests
# start servers of their own.
set -u

wanted=""
command -v spin >/dev/null 2>&1 || wanted="$wanted spin"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || wanted="$wanted gcc libc6-dev"
ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server >/dev/null 2>&1 || wanted="$wanted rabbitmq-server"
[ -z "$wanted" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
  echo "some tests will be skipped; for them: sudo apt-get install$wanted"
  exit 0
fi

echo "installing$wanted"
# A package must not start its service: see invoke-rc.d(8).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
{ apt-get update -q && apt-get install -q -y --no-install-recommends $wanted; } >/tmp/retrysafe-apt.log 2>&1 \
  || { tail -5 /tmp/retrysafe-apt.log; echo "that failed: the tests that need them will say so"; }
exit 0
