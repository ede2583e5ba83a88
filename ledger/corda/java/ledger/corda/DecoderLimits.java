package ledger.corda;

import java.lang.reflect.Array;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;

/**
 * Refuses sizes, counts and depths that a message's bytes can't hold, before memory is allocated. Proton 0.33 accepts any:
 * a peer's few bytes then end or hang a node, and again at each restart, since the message stays queued. Corda logs and
 * drops a refused message.
 */
final class DecoderLimits implements InvocationHandler {
    /** A Corda object takes two levels, and its construction far more stack. */
    private static final int MOST_DEEP = 400;
    private static final int[] BYTES = {0xb0, 0xb1, 0xb3};
    private static final int[] COUNTED = {0xd0, 0xd1, 0xf0};
    private static final int[] NESTED = {0x00, 0xc0, 0xc1, 0xe0};
    private static final int INT_BYTES = 4;
    private static final ThreadLocal<int[]> DEPTH = ThreadLocal.withInitial(() -> new int[1]);
    private final Object decoder;
    private final boolean sized;
    private final boolean nested;

    private DecoderLimits(Object decoder, boolean sized, boolean nested) {
        this.decoder = decoder;
        this.sized = sized;
        this.nested = nested;
    }

    /** Call before anything is read. Throws if Proton's version differs from the expected one. */
    static void install() throws ReflectiveOperationException {
        Class<?> decoding = Class.forName("org.apache.qpid.proton.codec.impl.DataDecoder");
        Field field = decoding.getDeclaredField("_constructors");
        field.setAccessible(true);
        Object decoders = field.get(null);
        for (int code : BYTES) {
            wrap(decoders, code, true, false);
        }
        for (int code : COUNTED) {
            wrap(decoders, code, true, true);
        }
        for (int code : NESTED) {
            wrap(decoders, code, false, true);
        }
    }

    private static void wrap(Object decoders, int code, boolean sized, boolean nested) {
        Class<?> type = decoders.getClass().getComponentType();
        DecoderLimits limits = new DecoderLimits(Array.get(decoders, code), sized, nested);
        Array.set(decoders, code, Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, limits));
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
        int[] depth = DEPTH.get();
        if (nested && depth[0] >= MOST_DEEP) {
            throw new IllegalArgumentException("nested more than " + MOST_DEEP + " deep");
        }
        if (sized && method.getName().equals("parse")) {
            verify((ByteBuffer) arguments[0]);
        }
        depth[0]++;
        try {
            method.setAccessible(true);
            return method.invoke(decoder, arguments);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        } finally {
            depth[0]--;
        }
    }

    /** Each element has at least one byte, except in an array of empty elements, which no node sends. */
    private void verify(ByteBuffer bytes) {
        int start = bytes.position();
        int left = bytes.remaining() - INT_BYTES;
        int size = left < 0 ? 0 : bytes.getInt(start);
        if (left < 0 || size < 0 || size > left) {
            throw new IllegalArgumentException(Integer.toUnsignedString(size) + " bytes are claimed of " + left);
        }
        if (nested && size >= INT_BYTES) {
            int count = bytes.getInt(start + INT_BYTES);
            if (count < 0 || count > size) {
                throw new IllegalArgumentException(
                        Integer.toUnsignedString(count) + " elements are claimed in " + size + " bytes");
            }
        }
    }
}
