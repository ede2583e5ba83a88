package ledger.corda;

import java.util.Collections;
import net.corda.core.cordapp.Cordapp;
import net.corda.core.serialization.SerializationContext;
import net.corda.core.serialization.SerializationFactory;
import net.corda.core.serialization.SerializedBytes;
import net.corda.core.serialization.internal.SerializationEnvironment;
import net.corda.core.serialization.internal.SerializationEnvironmentKt;
import net.corda.core.utilities.ByteSequence;
import net.corda.serialization.internal.CordaSerializationMagic;
import net.corda.serialization.internal.SerializationFactoryImpl;
import net.corda.serialization.internal.SharedContexts;
import net.corda.serialization.internal.amqp.AbstractAMQPSerializationScheme;
import net.corda.serialization.internal.amqp.SchemaKt;
import net.corda.serialization.internal.amqp.SerializerFactory;

/** Corda's serialization format of network documents. */
final class Amqp {
    private final SerializationFactory factory;
    private final SerializationContext context;

    Amqp() {
        SerializationFactoryImpl schemes = new SerializationFactoryImpl();
        schemes.registerScheme(new Scheme());
        factory = schemes;
        // Foreign data may contain only known classes: none is generated for it.
        context = SharedContexts.getAMQP_P2P_CONTEXT().withoutCarpenter();
        SerializationEnvironmentKt.get_contextSerializationEnv()
                .set(SerializationEnvironment.Companion.with(factory, context, null, null, null, null, null));
    }

    <T> SerializedBytes<T> write(T value) {
        return factory.serialize(value, context);
    }

    <T> T read(byte[] bytes, Class<T> type) throws Refusal {
        try {
            return factory.deserialize(ByteSequence.of(bytes), type, context);
        } catch (Exception | LinkageError error) {
            throw new Refusal("it is no " + type.getSimpleName() + ": " + error.getMessage());
        }
    }

    private static final class Scheme extends AbstractAMQPSerializationScheme {
        Scheme() {
            super(Collections.<Cordapp>emptyList());
        }

        @Override
        public boolean canDeserializeVersion(
                CordaSerializationMagic magic, SerializationContext.UseCase target) {
            return magic.equals(SchemaKt.getAmqpMagic()) && target == SerializationContext.UseCase.P2P;
        }

        @Override
        protected SerializerFactory rpcClientSerializerFactory(SerializationContext context) {
            throw new UnsupportedOperationException();
        }

        @Override
        protected SerializerFactory rpcServerSerializerFactory(SerializationContext context) {
            throw new UnsupportedOperationException();
        }
    }
}
