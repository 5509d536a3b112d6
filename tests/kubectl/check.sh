#!/usr/bin/env bash
# Drives a real kubectl against a local cluster and compares what a person sees.
#
#   paperclip-host cluster --kubeconfig-out FILE &
#   KUBECONFIG=FILE tests/kubectl/check.sh [KUBECTL]
#
# Every check names what it looks for; the exit code is the number of checks that failed.
set -u
kubectl=${1:-kubectl}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work # kubectl's discovery cache
failed=0

# check NAME PATTERN COMMAND...: the output, errors included, has a line that matches.
check() {
    local name=$1 pattern=$2 output
    shift 2
    output=$("$@" 2>&1)
    if grep -Eq -- "$pattern" <<<"$output"; then
        echo "ok    $name"
    else
        echo "FAIL  $name: no line matches $pattern in"
        sed 's/^/          /' <<<"$output"
        failed=$((failed + 1))
    fi
}

# job NAME SCRIPT: a manifest.
job() {
    cat <<YAML
apiVersion: batch/v1
kind: Job
metadata: {name: $1, labels: {app: check}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: none, command: [sh, -c, '$2']}
YAML
}

job hello 'for i in 1 2 3; do echo line $i; sleep 0.2; done; echo bye' >"$work/hello.yaml"
job slow 'trap "exit 0" TERM; echo up; while :; do sleep 0.1; done' >"$work/slow.yaml"
sed 's/restartPolicy: Never/restartPolicy: Always/; s/name: hello/name: bad/' "$work/hello.yaml" >"$work/bad.yaml"
sed 's/backoffLimit:/backofLimit:/; s/name: hello/name: bad/' "$work/hello.yaml" >"$work/unknown.yaml"
sed 's/backoffLimit: 0/backoffLimit: many/; s/name: hello/name: bad/' "$work/hello.yaml" >"$work/mistyped.yaml"
sed 's/app: check/app: changed/; s/backoffLimit: 0/backoffLimit: 0\n  ttlSecondsAfterFinished: 600/' "$work/hello.yaml" >"$work/hello2.yaml"
sed 's/image: none/image: other/' "$work/hello.yaml" >"$work/immutable.yaml"

check 'version'                    '^Server Version: v1\.'                        "$kubectl" version
check 'api-resources'              '^jobs +batch/v1 +true +Job'                   "$kubectl" api-resources
check 'explain'                    'FIELD: suspend <boolean>'                     "$kubectl" explain job.spec.suspend
check 'auth can-i'                 '^yes$'                                        "$kubectl" auth can-i create jobs
check 'auth whoami'                'local-admin'                                  "$kubectl" auth whoami
check 'get nodes'                  '^local +Ready'                                "$kubectl" get nodes

check 'apply creates'              'job.batch/hello created'                      "$kubectl" apply -f "$work/hello.yaml"
check 'logs -f'                    '^bye$'                                        "$kubectl" logs -f job/hello --pod-running-timeout=20s
check 'wait for the end'           'condition met'                                "$kubectl" wait --for=condition=complete job/hello --timeout=30s
check 'logs --timestamps --tail'   '^[0-9-]+T[0-9:.]+Z bye$'                      "$kubectl" logs job/hello --timestamps --tail=1
check 'apply changes nothing'      'job.batch/hello unchanged'                    "$kubectl" apply -f "$work/hello.yaml"
check 'apply changes'              'job.batch/hello configured'                   "$kubectl" apply -f "$work/hello2.yaml"
check 'apply removes'              'job.batch/hello configured'                   "$kubectl" apply -f "$work/hello.yaml"
check 'a template is immutable'    'spec.template: Invalid value.*immutable'      "$kubectl" apply -f "$work/immutable.yaml"
check 'get jobs'                   '^hello +Complete +1/1 '                       "$kubectl" get jobs
check 'get pods'                   '^hello-[a-z0-9]{5} +0/1 +Completed +0 '       "$kubectl" get pods -l job-name=hello
check 'get -o wide'                'none +batch.kubernetes.io/controller-uid='    "$kubectl" get job hello -o wide
check 'describe a job'             'Pods Statuses: +0 Active \(0 Ready\) / 1 Succ' "$kubectl" describe job hello
check 'describe a pod'             'Successfully assigned default/hello-'         "$kubectl" describe pod -l job-name=hello
check 'get events'                 'Normal +SuccessfulCreate +job/hello'          "$kubectl" get events

check 'a rule is broken'           'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"' "$kubectl" create -f "$work/bad.yaml"
check 'a field is unknown'         'strict decoding error: unknown field "spec.backofLimit"' "$kubectl" apply -f "$work/unknown.yaml"
check 'a field is of another type' 'cannot unmarshal string into Go struct field JobSpec.spec.backoffLimit of type int32' "$kubectl" create -f "$work/mistyped.yaml"
check 'an unknown field, warned of' 'Warning: unknown field "spec.backofLimit"'   "$kubectl" create -f "$work/unknown.yaml" --validate=warn --dry-run=server
check 'it exists already'          'jobs.batch "hello" already exists'            "$kubectl" create -f "$work/hello.yaml"
check 'it does not exist'          'jobs.batch "nothing" not found'               "$kubectl" get job nothing

check 'create job'                 'job.batch/made created'                       "$kubectl" create job made --image=none -- true
check 'create secret'              'secret/s created'                             "$kubectl" create secret generic s --from-literal=a=b
check 'create configmap'           'configmap/c created'                          "$kubectl" create configmap c --from-literal=a=b
check 'get secret'                 '^b$'                                          "$kubectl" get secret s '--template={{.data.a | base64decode}}'
check 'label'                      'job.batch/made labeled'                       "$kubectl" label job made color=red
check 'strategic patch'            'job.batch/made patched'                       "$kubectl" patch job made -p '{"spec":{"ttlSecondsAfterFinished":60}}'
check 'json patch'                 'job.batch/made patched'                       "$kubectl" patch job made --type=json -p '[{"op":"remove","path":"/metadata/labels/color"}]'

check 'a slow job'                 'job.batch/slow created'                       "$kubectl" create -f "$work/slow.yaml"
check 'it runs'                    'condition met'                                "$kubectl" wait --for=jsonpath='{.status.phase}'=Running pod -l job-name=slow --timeout=20s
check 'suspend'                    'job.batch/slow patched'                       "$kubectl" patch job slow --type=merge -p '{"spec":{"suspend":true}}'
check 'suspended'                  'condition met'                                "$kubectl" wait --for=condition=suspended job/slow --timeout=20s
check 'delete in the foreground'   'job.batch "slow" deleted'                     "$kubectl" delete job slow --cascade=foreground
check 'delete in the background'   'job.batch "made" deleted'                     "$kubectl" delete job made
check 'delete leaving orphans'     'job.batch "hello" deleted'                    "$kubectl" delete job hello --cascade=orphan
check 'the orphan stays'           '^hello-'                                      "$kubectl" get pods
check 'delete by label'            'pod "hello-.*" deleted'                       "$kubectl" delete pods -l job-name=hello
check 'a namespace on first use'   'job.batch/hello created'                      "$kubectl" create -n team -f "$work/hello.yaml"
check 'delete a namespace'         'namespace "team" deleted'                     "$kubectl" delete namespace team --timeout=30s
check 'its objects too'            'No resources found'                           "$kubectl" get jobs,pods -n team
check 'delete the rest'            'configmap "c" deleted'                        "$kubectl" delete secret/s configmap/c

echo "$failed checks failed"
exit "$failed"
