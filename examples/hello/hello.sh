/bin/busybox echo "hello from a machine of type $(/bin/busybox uname -m)"
/bin/busybox cat /log
